"""What do the files of the other steps say? Statistics, tables and figures; neither torch nor a GPU is needed."""

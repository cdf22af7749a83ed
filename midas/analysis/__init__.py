"""Statistics, tables and figures: they read the files of the other steps and need neither torch nor a GPU."""

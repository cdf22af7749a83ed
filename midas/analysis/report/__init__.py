"""All results of a size on one page."""

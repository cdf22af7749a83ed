"""What are all results of a size, on one page?"""

"""What follows from the keys of what stands beside the paper's tables? A module for each, with the same functions.

- problems(plan): what is wrong with its keys, a line each.
- files(plan): what its table and figure are drawn from, and so what is published of it; none where it isn't asked for.
"""

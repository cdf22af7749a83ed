"""MIDAS: mosaic input-specific differentiable architecture search, and the pipeline that reproduces it.

For Python code: `midas.api`. The modules beside it are steps, each a command (``python -m midas.search``), and have its names.
"""

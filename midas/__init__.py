"""MIDAS: mosaic input-specific differentiable architecture search, and the pipeline that reproduces it."""

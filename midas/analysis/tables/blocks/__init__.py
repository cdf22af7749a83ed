"""Blocks that several tables have, or that stand apart from the rest of one."""

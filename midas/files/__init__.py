"""How a file is read and written: texts, YAML, whole or not at all, with a lock. Nothing here knows what it holds."""

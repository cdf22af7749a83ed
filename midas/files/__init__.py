"""How is a file read and written? Texts, YAML, whole or not at all, with a lock; nothing here knows what a file holds."""

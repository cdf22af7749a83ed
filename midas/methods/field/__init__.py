"""The field's methods as parts of a composition."""

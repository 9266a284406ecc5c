"""From an item's text to a semantic embedding: one interface, its engines, and the name of what an embedding depends on."""

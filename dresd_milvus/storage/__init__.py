"""A store as a whole: opening it for a model, recall, inspection, files of rows, export and import."""

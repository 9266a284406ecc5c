"""Raw data as its owners keep it: find the files of a dataset folder, recognise their format, read them lazily."""

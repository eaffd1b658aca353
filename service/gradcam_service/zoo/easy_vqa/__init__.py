"""The embedded model `easy-vqa`: answers to questions about one drawn shape, from a data set that others made."""

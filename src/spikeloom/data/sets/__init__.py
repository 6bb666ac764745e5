"""The data sets, a file a family: what is in this folder is found by the names that it registers."""

"""What `cvnets check RECIPE` looks at before a training: the data, and whether all fits them."""

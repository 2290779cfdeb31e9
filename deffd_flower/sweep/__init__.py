"""`deffd sweep`: a grid of federations on Ray Tune, one row of a table for each."""

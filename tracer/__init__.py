"""Record what every rank computes and communicates, as Arrow files. Importing needs no torch."""

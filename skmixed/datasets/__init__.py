"""Data sets of the mixed-model literature, with source and units."""

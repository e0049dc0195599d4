"""Reading runs: why one waits, its trace, its export, its replay."""

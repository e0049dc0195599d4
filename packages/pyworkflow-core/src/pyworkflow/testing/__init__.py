"""The conformance kit: what a backend has to do, as plain pytest classes, and the doubles that tests need."""

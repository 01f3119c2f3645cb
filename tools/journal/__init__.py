"""The journal: every execution, install, start, failure and approval as one record, in segment files of its own."""

"""Export and exchange: memories out of a database, and out of files or other databases into one."""

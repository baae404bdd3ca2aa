"""The metrics database: tables, migrations, reading and writing."""

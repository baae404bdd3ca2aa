"""What EVC's DAGs are wired from. Heavy imports stay inside ``execute``: DAG files are parsed all day."""

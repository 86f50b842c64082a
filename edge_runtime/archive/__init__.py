"""Past one machine: whole archives screened by Ray Data into Parquet, and asked by DuckDB."""

"""What every other room stands on: records, parsing, whole files, threads. Knows no radiograph."""

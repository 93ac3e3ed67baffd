"""What a run says: tables, figures, the report and the files of results."""

"""Many boxes on one page, from the audit logs that they write: no server, no patient data."""

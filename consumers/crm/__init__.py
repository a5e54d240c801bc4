"""The CRM role: looks contacts up over HTTP, and writes ``crm.answers``."""

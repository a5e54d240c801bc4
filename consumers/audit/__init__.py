"""Looking back at a log: what happened to a conversation, whether it would happen again, whether anybody meddled."""

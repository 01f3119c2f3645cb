"""Gateways, ToolScores that share one store: who there is, which of them runs which server, who may come in."""

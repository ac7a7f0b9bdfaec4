"""Agents: who does a task's work in the sandbox."""

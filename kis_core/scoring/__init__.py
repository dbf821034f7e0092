"""Scores of a model on facts and texts: answers, log-odds and perplexity."""

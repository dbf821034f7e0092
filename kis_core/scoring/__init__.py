"""What a model says of facts and texts: answers, log-odds and perplexity."""

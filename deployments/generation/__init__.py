"""Text from language models: prompts in, tokens out, in one batch that sequences join and leave."""

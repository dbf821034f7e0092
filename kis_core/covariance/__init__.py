"""The second moment C of keys over text: summed in one pass, kept on the way, shared by processes, factored."""

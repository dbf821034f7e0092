"""The second moment C of keys over text: summed in one pass, kept, shared by processes, factored."""

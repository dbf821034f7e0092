"""The methods of editing, one file each; `registry` finds every file that lies here."""

"""What every other package may import; it imports none of ours, and knows nothing of the domain.

`errors`: the root of all errors and its exit codes. `settings_text`: settings files as text.
`store_address`: where a cube is, and the ``AWS_*`` variables. `file_writes`: atomic local files.
"""

"""What a forge is told of a pull request, and what it is asked: who looks at which file, the comment, the labels.

`declared` is what this repository says of the forge (``changes/forge.yml``), `owners` the file that says who is asked,
`api` the forge's REST interface, `events` what its runners say of a run, `received` turns what a job with the change's own
code left into a dossier that is believed no further than it can be checked, `comment` and `labels` write. Authority is none
of this: an approval is a signature (`dpp.operations.change.authorisation`).
"""

"""Changes: what a difference between two commits would do (`plan`), and who has authorised what (`records`).

`states` has each side tell what it declares and would deploy, by its own code; `compare` and `impact` are pure functions of two
such states; `previews` asks the engine; `rules` says what that means; `dossier` is the page.
"""

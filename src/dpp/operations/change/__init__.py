"""Changes: what a difference between two commits would do (`plan`), who has authorised what (`records`), and applying it (`apply`).

`states` has each side tell what it declares and would deploy, by its own code; `compare` and `impact` are pure functions of two
such states; `previews` asks the engine; `rules` says what that means; `dossier` is the page. `door` says who is let in, and
when (`windows`, `freezes`, `places`), after `live` has asked the environment; `journal` knows how far a change has come; `hands`
does the work; `glass` and `listing` are what everybody sees.
"""

"""Draw the pictures of docs/concepts.md from what the analyses say of the runs on paper.

python -m scripts.concept_pictures           write docs/images/concepts-*.svg anew
python -m scripts.concept_pictures --check   only compare; exits with 1 if one is out of date
"""

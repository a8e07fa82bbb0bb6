"""Text in, batches out.

``pairs`` reads and writes data folders, ``tokenizer`` turns text into ids and back, ``sequences`` lays a pair out as
one DiffuSeq sequence and says which rows a training step sees, ``grammar`` is a built-in corpus of questions.
"""

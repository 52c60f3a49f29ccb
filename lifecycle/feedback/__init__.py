"""What people thought of served answers: how it is kept, what it says, and a round of learning from it."""

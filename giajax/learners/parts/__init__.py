"""Parts that learners share."""

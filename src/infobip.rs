//! Out to the Infobip HTTP API: requests, answers, and what an answer means.

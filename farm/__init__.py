"""A farm: many ComfyUI servers on one machine or several, which make the prompts of a list of jobs.

Ray starts and restarts the workers. In reading order: `jobs` (what is to be made), `ledger` (what
has been), `schedule` (who makes what next), `shared_folder` (what all machines see), `server` and
`worker` (one ComfyUI), `cluster` (Ray), `driver` (the loop), `progress` and `summary` (what is
seen). docs/farm.md says how to use it.
"""

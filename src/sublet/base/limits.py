"""Every limit on what comes from outside, in one place, each with its unit.

A limit is part of the protocol: two nodes with different limits would fold one log
into two books. Change one only together with the version of the documents.
"""

# Documents and the log
DOCUMENT_BYTES_MAX = 16_384  # one signed document, as canonical JSON
BATCH_DOCUMENTS_MAX = 256  # documents in one request, and in one group commit
TEXT_LENGTH_MAX = 128  # characters of a name, model, region or reason
KEY_LENGTH_MAX = 256  # characters of an OpenSSH public key line
EGRESS_DESTINATIONS_MAX = 64  # of one job
EGRESS_ROWS_MAX = 256  # of the table that a receipt hashes
LEASES_PER_MACHINE_MAX = 1_024  # that an offer may promise to hold at one time
LIST_LENGTH_MAX = (
    16  # regions, sandboxes, avoided providers, tenants refused in one document
)
CLOCK_SKEW_S_MAX = 30  # seconds a document's own time may be ahead of the node's
DOCUMENT_AGE_S_MAX = 3_600  # seconds a document may lie about before it is appended

# Resources of one machine
CPUS_MILLI_MAX = 1_024_000  # thousandths of a CPU
MEMORY_BYTES_MAX = 1 << 46  # 64 TiB
DISK_BYTES_MAX = 1 << 50  # 1 PiB
GPU_COUNT_MAX = 64
GPU_MEMORY_BYTES_MAX = 1 << 42  # 4 TiB a GPU
GPU_SHARE_WHOLE = 1_000  # thousandths of a GPU
RATE_MBIT_S_MAX = 10_000_000  # 10^6 bits a second: 10 Tbit/s
LATENCY_MS_MAX = 1_000  # that an offer or order may say of a place

# Money and time
PRICE_PER_HOUR_MAX = 1_000_000_000  # micro-USD per hour and unit: $1,000
AMOUNT_MAX = 1 << 53  # micro-USD, about nine billion dollars
LEASE_S_MAX = 30 * 24 * 3_600  # seconds
TIME_S_MAX = 253_402_300_799  # seconds since the epoch: the end of the year 9999

# Parties
OFFERS_PER_PROVIDER_MAX = 64
LEASES_PER_TENANT_MAX = 1_024  # open at one time
DELEGATIONS_PER_TENANT_MAX = 64
ATTESTATIONS_PER_AUDITOR_MAX = 1_024  # that stand at one time
UNERASED_PER_PROVIDER_MAX = 1_024  # leases whose erasure a provider may owe
REPLACEMENTS_MAX = 256  # of the program of one lease
LEASES_KEPT_MAX = 10_000  # settled leases that the book still remembers

# How fast one key may speak, by the log's clock: so many at once, then so many a minute
ORDERS_AT_ONCE = 4_096
ORDERS_A_MINUTE = 600
BIDS_AT_ONCE = 4_096
BIDS_A_MINUTE = 1_200
OFFERS_AT_ONCE = 256
OFFERS_A_MINUTE = 60
ATTESTATIONS_AT_ONCE = 2_048
ATTESTATIONS_A_MINUTE = 60
CHANNELS_AT_ONCE = 1_024
CHANNELS_A_MINUTE = 60
DELEGATIONS_AT_ONCE = 256
DELEGATIONS_A_MINUTE = 60
DOCUMENTS_AT_ONCE = 16_384  # of each other kind
DOCUMENTS_A_MINUTE = 30_000

# What machines were let for
TAPE_HOURS_MAX = 168  # hours that the tape keeps: a week
TAPE_DEALS_MAX = 512  # newest deals of one kind that it keeps one by one
TAPE_SERIES_MAX = 256  # pairs of GPU model and region

# Orders that wait
ORDERS_PER_TENANT_MAX = 256  # open at one time
ORDER_HOLD_MIN = 10_000  # micro-USD that an order sets aside to count as backed
UNBACKED_ORDERS_MAX = 256  # orders of all tenants that wait with less set aside
ORDERS_KEPT_MAX = 1_000  # that have ended, and that the book still remembers
CALLED_PER_ORDER_MAX = 1_024  # providers that a node tells of one live order
CALLS_PER_WELCOME_MAX = 256  # live orders that a provider is told of as it comes
BIDS_PER_ORDER_MAX = 64  # the best ones, each of another provider
PIECES_PER_ORDER_MAX = 256  # leases of one order, one after the other or at once
MACHINES_PER_ORDER_MAX = 64  # of a gang: leased together, whole or not at all
GANG_TRIES_MAX = 4  # times that a gang is placed before its order is given up
BOOKINGS_PER_MACHINE_MAX = 64  # slices of one machine that are spoken for
WINDOW_S_MAX = 3_600  # for bids, and then for the tenant to choose
WAIT_S_MAX = 30 * 24 * 3_600  # that an order may stay open, or begin ahead
NOTICE_S_MAX = 3_600  # that a spot lease may be sold with
VOLUME_S_MAX = 1_024 * LEASE_S_MAX  # seconds of a slice, over all leases of an order

# Answers of a chain's RPC
RPC_BYTES_MAX = 16_777_216  # of one answer
RPC_LOGS_MAX = 20_000  # events in one answer

STATEMENT_LINES_MAX = 250_000  # of one statement: 150 MB of memory

# Requests to a node
REQUEST_BYTES_MAX = 4_194_304
REQUEST_AGE_S_MAX = 30  # seconds a signed request is good for
PAGE_ENTRIES_MAX = 1_000  # log entries in one answer
PRICE_PAGE_MAX = 100  # kinds of machine, or levels of one kind, in one answer
RELAY_BYTES_PER_MESSAGE_MAX = 262_144

# Jobs
MANIFEST_BYTES_MAX = 16_777_216  # lists each file of the inputs
CHUNK_BYTES = 4_194_304  # size of every chunk of a file but the last
PACKED_BYTES_MAX = 262_144  # of a file that shares its chunk with others
FILES_PER_TREE_MAX = 100_000
TREE_BYTES_MAX = 1 << 40
PATH_LENGTH_MAX = 1_024
ENVIRONMENT_VARIABLES_MAX = 256
RETRIES_MAX = 100
VOLUMES_MAX = 16  # of one job
STATEMENT_BYTES_MAX = 65_536  # a signed statement of erasure
VRAM_COVERED_MIN_PPM = 900_000  # of a GPU's memory, or it is not called scrubbed
LOG_BYTES_MAX = 1 << 30  # kept of one stream of one attempt

# Files on a provider's machine
CDI_BYTES_MAX = 1 << 20  # one CDI file; NVIDIA's own for eight GPUs have 60 kB
CDI_FILES_MAX = 64  # in one folder

# Maps
TASKS_MAX = 1_000_000  # of one map
TASK_BYTES_MAX = 16_777_216  # one task with its standard input
PARALLEL_MAX = 256  # workers of one map at a time

# Renders
PICTURE_SIDE_MAX = 65_536  # pixels of one side: Blender's own limit
PICTURE_PIXELS_MAX = 1 << 28  # of one picture: 4 GiB as float RGBA
RENDER_FRAME_MAX = 1_048_574  # Blender's own; as many below zero
RENDER_SAMPLES_MAX = 1 << 24  # of a pixel: Cycles' own
RENDER_SEED_MAX = (1 << 31) - 1

-- The tables of version 1, as first released. Never edit: upgrades start from here.
CREATE TABLE feedback (
    id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    value DOUBLE,
    text TEXT,
    payload JSON NOT NULL,
    actor TEXT NOT NULL,
    created DOUBLE NOT NULL,
    CONSTRAINT pk_feedback PRIMARY KEY (id),
    CONSTRAINT fk_feedback_message_id FOREIGN KEY(message_id) REFERENCES messages (id)
);
CREATE TABLE generations (
    message_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    adapter TEXT,
    sampling JSON NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    latency_ms DOUBLE,
    first_token_ms DOUBLE,
    cost_usd DOUBLE,
    finish_reason TEXT,
    error TEXT,
    owner JSON NOT NULL,
    CONSTRAINT pk_generations PRIMARY KEY (message_id),
    CONSTRAINT fk_generations_message_id FOREIGN KEY(message_id) REFERENCES messages (id)
);
CREATE TABLE ledger (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    amount_usd DOUBLE NOT NULL,
    detail JSON NOT NULL,
    created DOUBLE NOT NULL,
    CONSTRAINT pk_ledger PRIMARY KEY (id)
);
CREATE TABLE messages (
    id TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    parent_id TEXT,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    status TEXT NOT NULL,
    meta JSON NOT NULL,
    created DOUBLE NOT NULL,
    updated DOUBLE NOT NULL,
    CONSTRAINT pk_messages PRIMARY KEY (id),
    CONSTRAINT uq_messages_thread_id_id UNIQUE (thread_id, id),
    CONSTRAINT fk_messages_thread_id_parent_id FOREIGN KEY(thread_id, parent_id) REFERENCES messages (thread_id, id),
    CONSTRAINT fk_messages_thread_id FOREIGN KEY(thread_id) REFERENCES threads (id)
);
CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied FLOAT NOT NULL);
CREATE TABLE settings (
    "key" TEXT NOT NULL,
    value JSON NOT NULL,
    CONSTRAINT pk_settings PRIMARY KEY ("key")
);
CREATE TABLE threads (
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    meta JSON NOT NULL,
    created DOUBLE NOT NULL,
    CONSTRAINT pk_threads PRIMARY KEY (id)
);
CREATE TABLE tool_calls (
    id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    call_id TEXT,
    name TEXT NOT NULL,
    arguments JSON NOT NULL,
    status TEXT NOT NULL,
    result TEXT,
    ms DOUBLE,
    created DOUBLE NOT NULL,
    owner JSON NOT NULL,
    CONSTRAINT pk_tool_calls PRIMARY KEY (id),
    CONSTRAINT fk_tool_calls_message_id FOREIGN KEY(message_id) REFERENCES messages (id)
);
CREATE INDEX ix_feedback_created ON feedback (created);
CREATE INDEX ix_feedback_message_id ON feedback (message_id);
CREATE INDEX ix_messages_parent_id ON messages (parent_id);
CREATE INDEX ix_messages_status ON messages (status);
CREATE INDEX ix_messages_updated ON messages (updated);
CREATE INDEX ix_tool_calls_message_id ON tool_calls (message_id);
CREATE INDEX ix_tool_calls_status ON tool_calls (status);
INSERT INTO schema_version VALUES (1, 1795305600.0);

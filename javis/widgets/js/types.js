/**
 * What goes over the wire and what the page knows, as types. Nothing here runs.
 *
 * @typedef {{t: 'text', id: string|number, s: string}} TextPart
 * @typedef {{t: 'tool', call: Call}} ToolPart
 * @typedef {TextPart|ToolPart} Part
 *
 * @typedef {'proposed'|'waiting'|'running'|'ok'|'error'|'denied'|'cancelled'|'interrupted'|'corrected'} CallStatus
 *   `corrected` is said by the page alone: a call as it should have been
 * @typedef {'read'|'write'|'exec'|'net'} Risk
 * @typedef {{type?: string, properties?: Record<string, Schema>, required?: string[], enum?: any[],
 *   description?: string, anyOf?: Schema[], default?: any}} Schema
 * @typedef {object} Call
 * @property {string} id
 * @property {string} name
 * @property {Record<string, any>|string} arguments
 * @property {CallStatus} status
 * @property {Risk} risk
 * @property {string} rule
 * @property {Record<string, string>} [why] the parts of a known rule, with its `kind`
 * @property {string} key
 * @property {{kind: 'diff'|'command'|'none', s: string}} [preview]
 * @property {Schema} [schema]
 * @property {string} [output]
 * @property {string|null} [result]
 * @property {number|null} [ms]
 * @property {string|null} [pattern]
 * @property {boolean} [edited] a person has changed the arguments
 * @property {number} [asked] how many questions there were in this turn, where they were many
 * @property {string[]} [batch] the calls that were asked about at once, the most dangerous first
 *
 * @typedef {{n: number, label: string, place?: string, score?: number|null, text: string}} Source
 * @typedef {{kind: string, label: string, tokens?: number}} Mention
 * @typedef {object} Footer
 * @property {string|null} [model]
 * @property {string|null} [adapter]
 * @property {number|null} [first_token_s]
 * @property {number|null} [tokens_per_s]
 * @property {number|null} [tokens]
 * @property {number|null} [cost_usd]
 * @property {[number, number]|null} [context]
 *
 * @typedef {object} Verdict
 * @property {boolean|null} up
 * @property {number|null} [stars]
 * @property {string[]} [reasons]
 * @property {string|null} [comment]
 * @property {string|null} [corrected]
 * @property {boolean} [candidate]
 *
 * @typedef {'left'|'right'} Side
 * @typedef {Side|'tie'|'neither'} Choice
 * @typedef {{id: string, side: Side, picked: Choice|null}} PairMark
 *
 * @typedef {'complete'|'streaming'|'cancelled'|'error'|'partial'} Status
 * @typedef {object} Message
 * @property {string} id
 * @property {string|null} parent
 * @property {'user'|'assistant'} role
 * @property {Status} status
 * @property {Part[]} parts
 * @property {string[]} [siblings]
 * @property {Mention[]} [mentions]
 * @property {Source[]} [sources]
 * @property {Footer|null} [footer]
 * @property {Verdict|null} [verdict]
 * @property {string|null} [error]
 * @property {string[]} [notes]
 * @property {PairMark|null} [pair]
 *
 * @typedef {{id: string, next: number}} Run
 * @typedef {{client: string, text: string, known: string[]}} Pending
 * @typedef {object} State
 * @property {number} rev
 * @property {string|null} thread
 * @property {string} title
 * @property {Message[]} messages
 * @property {string|null} head
 * @property {Record<string, Run>} runs
 * @property {string[]} ended
 * @property {Pending[]} pending
 * @property {boolean} more
 * @property {boolean} loaded
 * @property {boolean} stale
 *
 * @typedef {{do: 'hello', why: string}
 *   | {do: 'error', op: string, client: string|null, text: string, draft: string|null}
 *   | {do: 'note', text: string}
 *   | {do: 'began', id: string}
 *   | {do: 'ended', id: string, status: Status}
 *   | {do: 'waiting', id: string, call: Call}} Effect
 *
 * @typedef {{v?: number, op: string, [key: string]: any}} WireMessage
 *
 * @typedef {object} Model What anywidget hands over; `widget_manager` is there in JupyterLab.
 * @property {(name: string) => any} get
 * @property {(name: string, value: any) => void} set
 * @property {() => void} save_changes
 * @property {(content: any, callbacks?: any, buffers?: any) => void} send
 * @property {(name: string, callback: (...args: any[]) => void) => void} on
 * @property {(name?: string|null, callback?: ((...args: any[]) => void)|null) => void} off
 * @property {any} [widget_manager]
 *
 * @typedef {'en'|'ko'} Locale
 * @typedef {(key: string, values?: Record<string, string|number>) => string} Say
 */
export {};

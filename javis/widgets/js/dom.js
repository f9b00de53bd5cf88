/** Making elements. Text only ever goes in as text nodes: there is no way to pass HTML. */

/** @typedef {Node|string|number|false|null|undefined} Child */
/**
 * @typedef {object} Props
 * @property {string} [class]
 * @property {Record<string, (event: any) => void>} [on]
 * @property {Record<string, string|number|boolean|null|undefined>} [attr]
 * @property {Record<string, any>} [prop]
 */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Props|null} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  const el = document.createElement(tag);
  if (props?.class) el.className = props.class;
  for (const [name, value] of Object.entries(props?.attr ?? {})) setAttr(el, name, value);
  for (const [name, value] of Object.entries(props?.on ?? {})) el.addEventListener(name, value);
  if (props?.prop) Object.assign(el, props.prop);
  fill(el, children);
  return el;
}

/**
 * @param {Element} el
 * @param {string} name
 * @param {string|number|boolean|null|undefined} value false, null and undefined remove it
 */
export function setAttr(el, name, value) {
  const text = value === true ? '' : value;
  if (text === false || text === null || text === undefined) el.removeAttribute(name);
  else if (el.getAttribute(name) !== String(text)) el.setAttribute(name, String(text));
}

/**
 * @param {Node} el
 * @param {Child[]} children
 */
function fill(el, children) {
  for (const child of children) {
    if (child === false || child === null || child === undefined) continue;
    el.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Everything in an element, replaced.
 * @template {Element} E
 * @param {E} el
 * @param {...Child} children
 * @returns {E}
 */
export function put(el, ...children) {
  el.replaceChildren();
  fill(el, children);
  return el;
}

/**
 * The children of an element made to be these, in this order, touching only what differs.
 * @param {Element} el
 * @param {Element[]} wanted
 */
export function order(el, wanted) {
  const keep = new Set(wanted);
  for (const child of [...el.children]) if (!keep.has(child)) child.remove();
  let at = el.firstElementChild;
  for (const child of wanted) {
    if (child === at) at = at.nextElementSibling;
    else el.insertBefore(child, at);
  }
}

/**
 * @param {Element} el
 * @param {boolean} shown
 */
export function show(el, shown) {
  setAttr(el, 'hidden', !shown);
}

let last = 0;
/** An id that no other element of the page has. */
export const uid = () => `jv-${++last}-${Math.random().toString(36).slice(2, 7)}`;

/** A random name: `crypto.randomUUID` is missing on plain http. */
export const token = () =>
  Date.now().toString(36) + Math.random().toString(36).slice(2, 10) + Math.random().toString(36).slice(2, 6);

/**
 * A function that waits until it has not been called for a while.
 * @template {any[]} A
 * @param {number} ms
 * @param {(...args: A) => void} run
 */
export function after(ms, run) {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  /** @param {A} args */
  const later = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...args), ms);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/**
 * Text to the clipboard, also where the Clipboard API is not (plain http, some webviews).
 * @param {string} text
 * @param {Element} near an element of the page that may hold a helper for a moment
 * @returns {Promise<boolean>}
 */
export async function copy(text, near) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const active = document.activeElement;
    const box = h('textarea', { class: 'jv-off', attr: { 'aria-hidden': 'true' }, prop: { value: text } });
    near.appendChild(box);
    box.select();
    let done = false;
    try {
      done = document.execCommand('copy');
    } catch {
      done = false;
    }
    box.remove();
    if (active instanceof HTMLElement) active.focus();
    return done;
  }
}

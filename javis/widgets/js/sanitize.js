/**
 * HTML made from what a model wrote becomes nodes here, and nowhere else: an allow-list of elements
 * and attributes, then a second look at every attribute that is left.
 */

import DOMPurify from 'dompurify';
import { visible } from './text.js';

const TAGS = ['p', 'br', 'hr', 'strong', 'em', 'del', 'code', 'pre', 'blockquote', 'ul', 'ol', 'li', 'h3', 'h4', 'h5', 'h6',
  'table', 'thead', 'tbody', 'tr', 'th', 'td', 'a', 'span', 'sub', 'sup'];
const MATH = ['math', 'mrow', 'mi', 'mn', 'mo', 'ms', 'mtext', 'mspace', 'mfrac', 'msqrt', 'mroot', 'mstyle', 'mpadded',
  'mphantom', 'menclose', 'msub', 'msup', 'msubsup', 'munder', 'mover', 'munderover', 'mmultiscripts', 'mprescripts', 'mtable',
  'mtr', 'mtd', 'mlabeledtr', 'span'];
const MATH_ATTRIBUTES = ['display', 'mathvariant', 'stretchy', 'fence', 'separator', 'lspace', 'rspace', 'minsize', 'maxsize',
  'width', 'height', 'depth', 'voffset', 'accent', 'accentunder', 'columnalign', 'rowalign', 'columnspacing', 'rowspacing',
  'columnlines', 'rowlines', 'scriptlevel', 'displaystyle', 'linethickness', 'mathcolor', 'mathbackground', 'movablelimits', 'notation',
  'symmetric', 'largeop', 'frame', 'side'];

/** @type {Record<string, RegExp>} what a class may be, by element */
const CLASSES = {
  code: /^(language-[\w+#.-]{1,30})$/,
  span: /^(jv-math|jv-math jv-display|hljs-[\w-]+( [\w-]+_)*|katex|katex-error)$/,
  a: /^jv-img$/,
};

const SHARED = {
  ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false, ALLOW_UNKNOWN_PROTOCOLS: false, SANITIZE_DOM: true, KEEP_CONTENT: true,
  RETURN_DOM_FRAGMENT: true, FORBID_ATTR: ['style', 'id', 'name', 'slot', 'is', 'part'],
  // Also asked for attributes that hold no address, so what has no scheme passes; `check` is strict about addresses.
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|data:image\/(?:png|jpeg|gif|webp);base64,|[^a-z]|[a-z+.-]+(?:[^a-z+.\-:]|$))/i,
};

/**
 * @param {string} html made by our own renderer
 * @returns {DocumentFragment}
 */
export function clean(html) {
  const nodes = /** @type {any} */ (DOMPurify.sanitize(html, {
    ...SHARED, ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ['href', 'title', 'class', 'start', 'align'],
  }));
  check(nodes, ['href', 'title', 'class', 'start', 'align']);
  return nodes;
}

/**
 * @param {string} html MathML as KaTeX writes it
 * @returns {DocumentFragment}
 */
export function cleanMath(html) {
  const nodes = /** @type {any} */ (DOMPurify.sanitize(html.replace(/<annotation[\s\S]*?<\/annotation>/g, ''), {
    ...SHARED, ALLOWED_TAGS: MATH, ALLOWED_ATTR: ['class', ...MATH_ATTRIBUTES],
  }));
  check(nodes, ['class', ...MATH_ATTRIBUTES]);
  return nodes;
}

/**
 * @param {DocumentFragment} nodes
 * @param {string[]} allowed
 */
function check(nodes, allowed) {
  for (const el of nodes.querySelectorAll('*')) {
    const tag = el.localName;
    for (const { name, value } of [...el.attributes]) {
      const good = allowed.includes(name)
        && (name !== 'class' || tag.startsWith('m') || !!CLASSES[tag]?.test(value))
        && (name !== 'href' || tag === 'a')
        && (name !== 'start' || /^\d{1,9}$/.test(value))
        && (name !== 'align' || /^(left|right|center)$/.test(value));
      if (!good) el.removeAttribute(name);
    }
    if (tag === 'a' && !el.classList.contains('jv-img')) link(el);
  }
}

/**
 * The address of a link if a page may have it: http, https and mailto, in full.
 * @param {string|null} href
 * @returns {URL|null}
 */
export function address(href) {
  if (!href || !/^(https?:\/\/|mailto:)/i.test(href)) return null;
  try {
    const url = new URL(href);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) && !url.username && !url.password ? url : null;
  } catch {
    return null;
  }
}

/** @param {Element} a */
function link(a) {
  const url = address(a.getAttribute('href'));
  if (!url) {
    a.removeAttribute('href');
    return;
  }
  a.setAttribute('href', url.href);
  a.setAttribute('target', '_blank');
  a.setAttribute('rel', 'noopener noreferrer nofollow');
  a.setAttribute('title', visible(url.href, true).slice(0, 300));
}

/** One small window over the chat: a source, what will be sent, a menu. Escape and a click elsewhere close it. */

import { h, put, setAttr } from './dom.js';
import { isKey } from './ui.js';

export class Popover {
  /** @param {HTMLElement} root it is placed inside */
  constructor(root) {
    this.root = root;
    this.el = h('div', { class: 'jv-popover', attr: { hidden: true } });
    root.appendChild(this.el);
    this.pinned = false;
    this.width = 460;
    /** @type {HTMLElement|null} */
    this.anchor = null;
    /** @type {any} */
    this.timer = null;
    this.el.addEventListener('pointerenter', () => clearTimeout(this.timer));
    this.el.addEventListener('pointerleave', () => this.leave());
    root.addEventListener('keydown', (event) => {
      if (this.el.hidden || !isKey(event, 'Escape')) return;
      event.preventDefault();
      event.stopPropagation();
      this.close();
    }, true);
    this.outside = (/** @type {Event} */ event) => {
      const target = /** @type {Node} */ (event.composedPath()[0]);
      if (!this.el.hidden && !this.el.contains(target) && !this.anchor?.contains(target)) this.close();
    };
    document.addEventListener('pointerdown', this.outside, true);
  }

  /**
   * @param {HTMLElement} anchor
   * @param {HTMLElement} content
   * @param {{pinned?: boolean, label?: string, role?: string, focus?: boolean, width?: number}} [how] width: at most
   */
  open(anchor, content, how = {}) {
    clearTimeout(this.timer);
    if (this.pinned && !how.pinned && this.anchor !== anchor) return;
    if (how.pinned && this.pinned && this.anchor === anchor && !this.el.hidden) {
      this.close(true);
      return;
    }
    if (this.anchor && this.anchor !== anchor) this.anchor.removeAttribute('aria-expanded');
    this.pinned = !!how.pinned;
    this.width = how.width ?? 460;
    this.anchor = anchor;
    put(this.el, content);
    setAttr(this.el, 'role', how.role ?? 'dialog');
    setAttr(this.el, 'aria-label', how.label ?? null);
    this.el.hidden = false;
    anchor.setAttribute('aria-expanded', 'true');
    this.place();
    if (how.focus) /** @type {HTMLElement|null} */ (this.el.querySelector('summary,button,input,a[href],[tabindex]'))?.focus({ preventScroll: true });
  }

  /** Under the anchor if there is room in the chat, else where there is more; never beyond the chat, which may be cut off there. */
  place() {
    if (!this.anchor || this.el.hidden) return;
    const root = this.root.getBoundingClientRect();
    const at = this.anchor.getBoundingClientRect();
    const scale = root.width / (this.root.offsetWidth || 1) || 1;
    this.el.style.maxWidth = `${Math.min(this.width, this.root.offsetWidth - 16)}px`;
    const below = (root.bottom - at.bottom) / scale;
    const above = (at.top - root.top) / scale;
    this.el.style.maxHeight = '';
    const down = below >= Math.min(this.el.offsetHeight, 380) + 14 || below >= above;
    this.el.style.maxHeight = `${Math.max(60, Math.min(380, (down ? below : above) - 14))}px`;
    const left = Math.max(8, Math.min((at.left - root.left) / scale - 8, this.root.offsetWidth - this.el.offsetWidth - 8));
    this.el.style.left = `${left}px`;
    this.el.style.top = down ? `${(at.bottom - root.top) / scale + 6}px` : '';
    this.el.style.bottom = down ? '' : `${(root.bottom - at.top) / scale + 6}px`;
  }

  /** The pointer has left: close unless pinned, in a moment. */
  leave() {
    clearTimeout(this.timer);
    if (!this.pinned) this.timer = setTimeout(() => this.close(), 220);
  }

  /** @param {boolean} [back] the focus goes back to where it came from */
  close(back = false) {
    clearTimeout(this.timer);
    if (this.el.hidden) return;
    const inside = this.el.contains(document.activeElement);
    this.el.hidden = true;
    this.anchor?.removeAttribute('aria-expanded');
    if ((back || inside) && this.anchor?.isConnected) this.anchor.focus();
    this.anchor = null;
    this.pinned = false;
  }

  dispose() {
    clearTimeout(this.timer);
    document.removeEventListener('pointerdown', this.outside, true);
  }
}

/**
 * A list of commands in a popover; the arrows move in it.
 * @param {{label: string, detail?: string, run: () => void, lang?: string}[]} items
 * @param {() => void} done
 */
export function menu(items, done) {
  const list = h('div', {
    class: 'jv-menu', attr: { role: 'none' },
    on: {
      keydown: (/** @type {KeyboardEvent} */ event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const all = /** @type {HTMLElement[]} */ ([...list.children]);
        const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
        all[(at + step + all.length) % all.length]?.focus();
      },
    },
  }, ...items.map((item) => h('button', {
    class: 'jv-item', attr: { type: 'button', role: 'menuitem', lang: item.lang },
    on: { click: () => { done(); item.run(); } },
  }, h('span', null, item.label), item.detail ? h('small', null, item.detail) : null)));
  return list;
}

/**
 * The one file that anywidget loads, for every widget of JAVIS: which one is said by the trait `kind`.
 * The default export is a function, so that what is made in `initialize` is shared by all views of one widget.
 */

/** @import {Model} from './types.js' */
import { mount } from './chat.js';
import { h } from './dom.js';
import { Hub } from './hub.js';
import { localeOf, sayer } from './strings.js';

export default function widget() {
  /** @type {Hub|null} */
  let hub = null;
  return {
    /** @param {{model: Model}} given */
    initialize({ model }) {
      if (model.get('kind') !== 'chat') return undefined;
      const made = (hub = new Hub(model));
      return () => made.close();
    },
    /** @param {{model: Model, el: HTMLElement}} given */
    render({ model, el }) {
      const kind = model.get('kind');
      if (kind !== 'chat') {
        el.appendChild(h('p', null, sayer(localeOf(model))('unsupported', { kind: String(kind) })));
        return undefined;
      }
      hub ??= new Hub(model);
      return mount(hub, model, el);
    },
  };
}
